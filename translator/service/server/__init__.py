"""The process: uvicorn with protocols and a shutdown of our own, and worker processes.

Begin with `run`. `http1` and `websocket_protocol` extend uvicorn's protocols, `workers` supervises
several processes on one port.
"""
