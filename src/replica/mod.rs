//! Convergence: signed event DAG, lanes, validity, pending events, reconciliation.
