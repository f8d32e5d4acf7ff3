"""AWS on this machine: the stack, its rules and Lambda's runtime."""
