"""The web page: open or draw a scene, mark regions on it, ask about them."""
