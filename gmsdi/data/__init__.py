"""Data: the composed dataset "mini", the reader of the Slakh2100 layout and training windows."""
