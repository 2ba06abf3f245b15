"""Networks, denoisers and text conditioning."""
