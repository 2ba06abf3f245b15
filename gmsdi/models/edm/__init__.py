"""The models of this package: a U-Net with the preconditioning of Karras et al. 2022."""
