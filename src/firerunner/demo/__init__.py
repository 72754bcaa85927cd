"""The demo: a faithful GitLab, the real service and real microVMs, watched and judged."""
