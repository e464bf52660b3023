"""The demo: a real film log through a real broker, dataflow, encoder and store, on one machine."""
