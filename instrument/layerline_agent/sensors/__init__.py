"""One file per sensor: one cgroup controller or one ``/proc`` file."""
