"""Tests for gradient masking; ``examine.examine`` runs them all."""
