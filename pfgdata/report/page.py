def report_page(r): return "<p>"
