"""The two engines of scenario serving: from event to event, and step by step."""
