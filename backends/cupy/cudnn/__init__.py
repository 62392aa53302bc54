"""cuDNN's recurrent networks: the C interface, where weights lie, and a numpy model of a call."""
