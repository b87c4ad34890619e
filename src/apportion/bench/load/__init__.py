"""Load on a server that speaks the OpenAI API, ours or another: requests come when they are due, whatever
becomes of those before, and what each of them sees is recorded.
"""
