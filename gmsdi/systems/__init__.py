"""What a row of Table 2 or a task of Figures 2 and 3 runs on: GMSDI, MSDM, weakly supervised MSDM, Demucs + Gibbs."""
