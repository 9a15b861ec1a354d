"""
How fast xferd is, and how much memory it takes, beside docker, podman,
containerd and skopeo on the same machine, the same image and in the same run.

C{python -m benchmarks}, from the root of a checkout.  The harness is blocking
code in a process of its own, so that it shares nothing with the measured
programs.
"""
