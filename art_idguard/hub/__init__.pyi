from .model import HubModel as HubModel
from .shipped import shipped as shipped
