"""The bus: a Twisted service that takes sealed messages, stores them and answers with signed receipts."""
