"""Sets up runners and hooks in GitLab, and checks that GitLab, settings and guests fit together."""
