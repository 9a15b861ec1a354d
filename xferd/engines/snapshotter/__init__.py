"""
The snapshotter that containerd uses: C{containerd.services.snapshots.v1}.

L{xferd.engines.snapshotter.service} has the calls, L{xferd.engines.snapshotter.pulls}
obtains the layers that an engine asks for, and the rest are the files and mounts of
snapshots.
"""
