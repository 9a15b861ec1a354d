"""
A layer's compressed tar becomes a directory tree that overlayfs can mount.

The reactor's side is L{unpacker}, with one L{layer_task} for each layer.  It
speaks the line L{protocol} to L{worker}, which forks a L{layer_process} for
each layer.  That process follows the blob's growing file: L{inflate} yields
the tar, L{tar} (with L{pax}) its entries, and L{tree_writer} makes them, with
the help of L{directories} and L{metadata}.  It runs in a L{sandbox}
(L{landlock}, L{seccomp}).  L{flatten} copies a stack of trees into one
directory, as L{overlay_merge} lists it, for C{xferctl}.

Everything in a layer is hostile until checked.  The worker's side imports no
Twisted.
"""
