"""Deaths with real microVMs: the demo's jobs run, and the service is killed when its journal says a thing."""
