"""What commands print: text in lines, from the API's JSON and from what ``words`` says of it.

A file for each thing that is asked, named as its route is. ``page`` is its counterpart in HTML; neither imports the
other.
"""
