"""Phases: what a scan body computes, as loop nests over rows and lanes; made for any code generator."""
