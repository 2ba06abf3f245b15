"""Files and audio: reading, writing, and the steps between a file and a tensor."""
