"""What operators and bots install."""

# The one place of the number. Also here, held to it by .ci/release_notes.py: the template's
# SemanticVersion and the newest entry of CHANGELOG.md.
__version__ = "0.1.0"
