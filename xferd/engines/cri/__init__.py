"""
Kubernetes' CRI, as far as it has what a pull needs: the C{ImageService} of a containerd,
forwarded, so that kubelet's pull secrets reach the pulls of its snapshotter.
"""
