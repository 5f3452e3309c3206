"""The report of an audit: one page for somebody who was not there, such as an auditor."""
