"""The demonstration: an application's database, an index that follows it, and edits whose way is timed.

`handbook/<category>/<document id>.md` are the documents; each begins with its title.
"""
