"""Files and audio: reading, writing, and what lies between a file and a tensor."""
