"""
Webhooks: a message to other programs for each job that has ended, signed, and repeated until
it is accepted.

The messages wait in the journal, where they come with the end of the job, in one
transaction: a daemon that dies loses none, and may send one twice.
"""
