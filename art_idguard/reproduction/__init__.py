"""The paper's tables and figures, trained and measured anew: `art-idguard reproduce`."""
