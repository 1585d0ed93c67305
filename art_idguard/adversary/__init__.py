"""An adversary that has the released protector: what it makes of protected faces, and at which cost.

Threat model: the manipulator, the protector and faces of other people are at hand, the protected person's clean photo
is not. A family of attempts is a file here and a line in `families.py`.
"""
