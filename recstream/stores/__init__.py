"""Where state is kept: the ports, in memory, and LanceDB."""
