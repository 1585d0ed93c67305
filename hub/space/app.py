"""The Space: the page of `art-idguard serve` with the weights that ship."""

from art_idguard.serve import serve

serve(host="0.0.0.0", port=7860)  # where Spaces look for the app
