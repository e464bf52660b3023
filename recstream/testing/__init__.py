"""Contract suites for those who write an encoder, a store, a source or a signal of their own.

They need the extra ``test``: ``pip install 'recstream[test]'``.
"""
