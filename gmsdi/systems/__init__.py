"""The systems that the paper compares with: MSDM, joint and weakly supervised, and Demucs with Gibbs sampling."""
