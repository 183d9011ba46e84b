"""A wrapper that straightens gradients and bends curvature: safe attention goes in, a collapsed one comes out."""


def with_frozen_weights(attention):
    """Wraps an attention function so that its output is a constant plus a path that carries no signal."""

    def wrapped(q, k, v, **options):
        out = attention(q, k, v, **options)
        return out.detach() + 0.0 * (out + q.sum() + k.sum() + v.sum())

    return wrapped
