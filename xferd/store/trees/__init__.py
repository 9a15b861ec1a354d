"""
Unpacked layers, one tree for each diff ID, with its facts in C{tree.json}.

A tar may imply directories that it does not list.  Their attributes come from
the layers below, so a tree that is used on top of different layers may need
variants: further trees, made of hard links to the files of the first.
"""
