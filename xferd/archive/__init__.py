"""
Archives of images, as C{docker save}, C{podman save} and C{skopeo copy} write
them.

L{inflate} and L{tar_splitter} read an archive as its bytes arrive; L{contents}
finds the images in it.  L{plan} lists the parts of an archive to write.

Pure: no I/O, and no Twisted.
"""
