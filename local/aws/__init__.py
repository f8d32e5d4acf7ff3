"""AWS on this machine: the stack, its rules, the runtime."""
