"""What monitoring systems get from us: metrics, health, a dashboard and alert rules for them."""
