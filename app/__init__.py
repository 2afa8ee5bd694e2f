"""Attune's website and JSON API.

Each folder here is a slice of the product: models (tables), service (what can be done), routes (how the
browser asks for it). Slices form one downward chain: overview > api > demo > oversight > chat | writing > rating > teaching > training >
exchange > prompts | guidelines > projects > accounts > the modules beside this file. Nothing here imports
torch, transformers or `worker`: training happens in other processes, reached through the outbox in `queue`.
"""
