"""Tasks with answers to choose from: a model chooses the likeliest, and how often that is right is its
accuracy.
"""
