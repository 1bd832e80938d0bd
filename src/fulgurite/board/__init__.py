"""The web page: a server that reads run folders, asks a worker for plans, and starts `fulgurite train`."""
