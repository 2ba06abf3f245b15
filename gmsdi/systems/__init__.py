"""The systems behind Table 2 and Figures 2 and 3: GMSDI, MSDM, weakly supervised MSDM, Demucs + Gibbs."""
