"""What is measured: each file is run in a process of its own and prints one line of JSON."""
