"""Measures every claim of *Understanding Batch Normalization* (Bjorck, Gomes, Selman, Weinberger, NeurIPS 2018)."""
