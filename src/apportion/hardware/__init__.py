"""What the machine has and allows: memory and container limits, file systems, and the profile of what was
measured on it.
"""
