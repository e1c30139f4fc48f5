"""Testing: data sets x degradations x methods, with a cache of results, tables and pages; timing."""
