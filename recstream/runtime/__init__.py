"""A process and its life: started, supervised, stopped, and what it runs with."""
