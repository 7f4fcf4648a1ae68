"""Ray, Serve, HAProxy and Redis started for one run, and ended again."""
