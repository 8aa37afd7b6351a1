"""Alert packets of ZTF and Rubin: read, scored in batches, and passed on with a score added."""
