"""Samplers: generators over a grid of noise levels, with everything else as hooks from outside."""
