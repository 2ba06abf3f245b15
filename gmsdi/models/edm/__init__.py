"""This package's own models: a U-Net with the preconditioning of Karras et al. 2022."""
