"""What older releases wrote: never made again, always read."""
